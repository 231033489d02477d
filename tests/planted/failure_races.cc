// The races' failure_races.cc, built against the model with the planted bugs.
#include "tests/races/failure_races.cc"
