// The property test's memory_calls.cc, built against the model with the planted bugs.
#include "tests/property/memory_calls.cc"
