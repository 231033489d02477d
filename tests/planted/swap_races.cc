// The races' swap_races.cc, built against the model with the planted bugs.
#include "tests/races/swap_races.cc"
