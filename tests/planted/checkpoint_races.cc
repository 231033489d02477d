// The races' checkpoint_races.cc, built against the model with the planted bugs.
#include "tests/races/checkpoint_races.cc"
