// The races' truncate_races.cc, built against the model with the planted bugs.
#include "tests/races/truncate_races.cc"
