// What the tests of the commands share: a folder with workloads in it, and what every error line is.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/subprocess.h"
#include "tests/support/support.h"

namespace cli_test {

// A file whose last page is written privately, a fork, and two checkpoints: base and later.
extern const char kSmall[];

// Commands run in a folder of their own, which holds kSmall as "small.textproto".
class Commands : public testing::Test {
 protected:
  Commands();

  Outcome Ckpt(std::vector<std::string> args) const { return Ckpt(std::move(args), {}); }
  // `options.folder` is filled in.
  Outcome Ckpt(std::vector<std::string> args, Options options) const;
  // A checkpoint of a workload in the folder; the test fails if it cannot be written.
  void Image(const std::string& name, const std::string& label = "base",
             const std::string& workload = "small.textproto") const;
  void Write(const std::string& name, const std::string& bytes) const;
  std::string Read(const std::string& name) const;
  bool Exists(const std::string& name) const;
  // The names in the folder, sorted; hidden ones too.
  std::vector<std::string> Names() const;
  std::string Path(const std::string& name) const { return folder_ / name; }

 private:
  const support::TempDir folder_;
};

// One line on standard error that starts with "ckpt: " and has no control characters, nothing on
// standard output, and this exit code.
testing::AssertionResult Refused(const Outcome& outcome, int exit_code, const std::string& says = "");
// Ended well, and said nothing on standard error.
testing::AssertionResult Good(const Outcome& outcome);
// That `text` is one error line, with `says` in it.
testing::AssertionResult OneLine(const std::string& text, const std::string& says = "");

// The test fails, and null comes back, if it is not JSON.
nlohmann::json ParseJson(const std::string& text);

}  // namespace cli_test
