// The races' file_races.cc, built against the model with the planted bugs.
#include "tests/races/file_races.cc"
