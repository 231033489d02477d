// The property test's naive.cc, built against the model with the planted bugs.
#include "tests/property/naive.cc"
