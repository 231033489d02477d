// The property test's soft_dirty.cc, built against the model with the planted bugs.
#include "tests/property/soft_dirty.cc"
