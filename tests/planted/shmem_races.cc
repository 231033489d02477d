// The races' shmem_races.cc, built against the model with the planted bugs.
#include "tests/races/shmem_races.cc"
