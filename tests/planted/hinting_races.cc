// The races' hinting_races.cc, built against the model with the planted bugs.
#include "tests/races/hinting_races.cc"
