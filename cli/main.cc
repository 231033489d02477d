// ckpt: the program around the commands.
#include <fcntl.h>

#include <cstdio>
#include <exception>
#include <new>
#include <system_error>

#include "cli/command.h"
#include "cli/print.h"

namespace {

// A closed descriptor 0, 1 or 2 would be given to the next file that is opened, and what is printed would
// go into that: each gets a place where its use fails.
void FillStandardDescriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) (void)open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
  }
}

}  // namespace

int main(int argc, char** argv) {
  FillStandardDescriptors();
  cli::CatchSignals();
  try {
    const int code = cli::Main(argc, argv);
    cli::RaiseCaughtSignal();
    return code;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "ckpt: out of memory\n");
  } catch (const std::system_error& error) {
    std::fprintf(stderr, "ckpt: the system gives no thread or memory: %s\n", error.what());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ckpt: %s\n", error.what());
  }
  return cli::kExitTrouble;
}
