// Everything the program says: errors on standard error, results on standard output, progress on a
// terminal.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "proto/image.pb.h"

namespace cli {

// Set by SIGINT and SIGTERM; long operations poll it.
extern std::atomic<bool> g_stop;
// Installs the handlers, but for signals that were ignored when the program began.
void CatchSignals();
// Ends the program by the signal that was caught, if one was, so that a shell sees it.
void RaiseCaughtSignal();

// "ckpt: what" on standard error, and the exit code that goes with the code.
int PrintError(const base::Error& error);
// "ckpt: notice: what" on standard error.
void PrintNotice(const std::string& what);
// Where results go from now on: standard output, unless an image is written there.
void PrintTo(std::FILE* results);
// Writes to where results go; false with an error line when it cannot be written (a full disk).
bool PrintText(const std::string& text);
bool PrintJson(const nlohmann::ordered_json& json);
// Writes a file that appears when it is complete.
base::Result<void> SaveText(const std::string& path, const std::string& text);
// "1 page", "2 pages"; `plural` where it is not the noun and an s.
std::string Count(uint64_t number, const std::string& noun, const std::string& plural = "");
// Flushes standard output: kExitTrouble instead of `code` if what was printed did not arrive.
int Finish(int code);

// Two columns, the second right-aligned where it is a number of pages.
struct Row {
  std::string name;
  std::string value;
  std::string note;
};
std::string Table(const std::vector<Row>& rows);

// The table of a checkpoint: pages mapped, present, clean, zero, modified, shared, and the image's size.
std::vector<Row> TotalsRows(const ckpt_pb::Totals& totals, uint64_t image_bytes);
nlohmann::ordered_json TotalsJson(const ckpt_pb::Totals& totals);

// A progress line on standard error when that is a terminal, from the second second on.
class Progress {
 public:
  // `total` 0: unknown; then `done` is shown, in pages.
  Progress(std::string what, uint64_t total);
  ~Progress();
  void Update(uint64_t done);

 private:
  std::string what_;
  uint64_t total_;
  bool terminal_;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace cli
