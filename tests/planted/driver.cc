// The property test's driver.cc, built against the model with the planted bugs.
#include "tests/property/driver.cc"
