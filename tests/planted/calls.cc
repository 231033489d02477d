// The property test's calls.cc, built against the model with the planted bugs.
#include "tests/property/calls.cc"
