// The races' rmap_races.cc, built against the model with the planted bugs.
#include "tests/races/rmap_races.cc"
