// The races' race_world.cc, built against the model with the planted bugs.
#include "tests/races/race_world.cc"
