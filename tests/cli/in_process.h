// Runs commands in this process, where there are too many for a process each.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/cli/subprocess.h"

namespace cli_test {

// While it lives this process is in `folder`, and commands run there. They get no signals and no input; what
// they print is caught, and nothing else may be printed meanwhile.
class InProcess {
 public:
  explicit InProcess(const std::filesystem::path& folder);
  ~InProcess();
  InProcess(const InProcess&) = delete;
  InProcess& operator=(const InProcess&) = delete;

  Outcome Ckpt(std::vector<std::string> args);

 private:
  // Standard output or standard error, in a file without a name.
  struct Caught {
    int fd = -1;
    int file = -1;
    int saved = -1;
  };
  static void Catch(Caught& caught);
  static std::string Release(Caught& caught);

  std::filesystem::path before_;
  Caught out_;
  Caught err_;
};

}  // namespace cli_test
