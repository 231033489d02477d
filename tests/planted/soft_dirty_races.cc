// The races' soft_dirty_races.cc, built against the model with the planted bugs.
#include "tests/races/soft_dirty_races.cc"
