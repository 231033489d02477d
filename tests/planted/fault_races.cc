// The races' fault_races.cc, built against the model with the planted bugs.
#include "tests/races/fault_races.cc"
