// The property test's host_moves.cc, built against the model with the planted bugs.
#include "tests/property/host_moves.cc"
