// Workloads that tests of more than one folder run.
#pragma once

namespace support {

// Two CPUs, and an expectation of line 9 that some schedules do not meet: the load of one process stands
// right behind its store, and may still see the store of the other.
inline constexpr char kRace[] = R"(machine { memory: "1MiB" cpus: 2 }
process { name: "a" } process { name: "b" }
file { name: "f" size: "4KiB" generator: "counter" }
step { process: "a" map { region: "m" file: "f" shared: true } }
step { process: "b" map { region: "m" file: "f" shared: true } }
step { barrier {} }
step { process: "a" store { region: "m" length: "1" fill { byte: 1 } } }
step { process: "b" store { region: "m" length: "1" fill { byte: 2 } } }
step { process: "a" load { region: "m" length: "1" equals { byte: 1 } } }
)";

}  // namespace support
