// The property test's compare.cc, built against the model with the planted bugs.
#include "tests/property/compare.cc"
