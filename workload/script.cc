#include "workload/script.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <xxhash.h>

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "base/text_file.h"
#include "base/units.h"
#include "workload/located.h"
#include "workload/script_check.h"

namespace workload {
namespace {

namespace pb = google::protobuf;

// The text between the first and the second quotation mark at or after `from`.
std::string Quoted(const std::string& message, size_t from) {
  const size_t open = message.find('"', from);
  if (open == std::string::npos) return "";
  return message.substr(open + 1, message.find('"', open + 1) - open - 1);
}

std::string FieldNames(const pb::Descriptor& type) {
  std::string names;
  for (int i = 0; i < type.field_count(); ++i) names += (i > 0 ? ", " : "") + type.field(i)->name();
  return names;
}

// The parser's words, with what it would have taken.
std::string Explain(const std::string& message) {
  const size_t no_field = message.find("has no field named");
  if (no_field != std::string::npos) {
    const std::string type_name = Quoted(message, 0);
    const pb::Descriptor* type = pb::DescriptorPool::generated_pool()->FindMessageTypeByName(type_name);
    const std::string found = base::Printable(Quoted(message, no_field));
    if (type == nullptr) return base::Format("there is no field '%s'", found.c_str());
    return base::Format("there is no field '%s' in %s; there are %s", found.c_str(), type->name().c_str(),
                        type->field_count() > 0 ? FieldNames(*type).c_str() : "none");
  }
  std::string text = base::Printable(message);
  while (text.ends_with('.')) text.pop_back();
  if (text.ends_with("got: ")) return text + "the end of the file";
  if (message.starts_with("Expected string, got: ") && message.size() > 22 && message[22] >= '0' &&
      message[22] <= '9') {
    text += "; sizes and addresses are written in quotes (\"64KiB\")";
  } else if (message.starts_with("Unknown enumeration value")) {
    text += "; there are NORMAL, DONTNEED, DONTFORK, DOFORK and PAGEOUT";  // the only enumeration
  }
  return text;
}

// The word that a message is about, where the parser has already read past it.
std::string Culprit(const std::string& message) {
  const size_t value = message.find("Value: ");
  if (message.find("has no field named") != std::string::npos)
    return Quoted(message, message.find(" named "));
  if (value != std::string::npos) return Quoted(message, value);
  for (const char* start : {"Unknown enumeration value", "Non-repeated field", "Field \""}) {
    if (message.starts_with(start)) return Quoted(message, 0);
  }
  return "";
}

// Keeps the first error, which is the one that is true.
class FirstError final : public pb::io::ErrorCollector {
 public:
  FirstError(const std::string& path, std::string_view text) : path_(path), text_(text) {}
  void AddError(int line, pb::io::ColumnNumber column, const std::string& message) override {
    if (error_) return;
    const std::string text = Explain(message);
    column = WordStart(line, column, Culprit(message));
    error_ = line < 0 ? base::Error{base::Code::kInvalid, path_ + ": " + text}
                      : base::Error{base::Code::kInvalid, base::Format("%s:%d:%d: %s", path_.c_str(),
                                                                       line + 1, column + 1, text.c_str())};
  }
  base::Error Take() {
    return error_ ? *error_ : base::Error{base::Code::kInvalid, path_ + ": not protobuf text format"};
  }

 private:
  // Where `word` starts, if it stands on that line before `column`. Columns count tabs otherwise than
  // bytes: a line with one keeps the parser's.
  int WordStart(int line, int column, const std::string& word) const {
    std::string_view rest = text_;
    for (int i = 0; i < line; ++i) {
      const size_t newline = rest.find('\n');
      rest = newline == std::string_view::npos ? "" : rest.substr(newline + 1);
    }
    rest = rest.substr(0, rest.find('\n'));
    if (word.empty() || rest.find('\t') != std::string_view::npos) return column;
    const size_t found = rest.substr(0, static_cast<size_t>(std::max(column, 0))).rfind(word);
    return found == std::string_view::npos ? column : static_cast<int>(found);
  }

  const std::string& path_;
  std::string_view text_;
  std::optional<base::Error> error_;
};

// Where a file is said to be made from.
Place FilePlace(const Located& located) {
  const auto& file = dynamic_cast<const ckpt_pb::Workload::File&>(located.message());
  return located.Of(file.real().empty() ? "name" : "real");
}

// Where a step names what it reads of the system or, for exec, of the machine.
std::optional<Place> InputPlace(const Located& located) {
  const auto& step = dynamic_cast<const ckpt_pb::Step&>(located.message());
  if (step.has_exec()) return located.Child("exec").Of(step.exec().path().empty() ? "file" : "path");
  if (step.create().has_file()) return FilePlace(located.Child("create").Child("file"));
  return std::nullopt;
}

// Fills in `out` from the steps of a message with the field "step", numbering them from *number on.
base::Result<void> Collect(const Located& parent, unsigned depth, uint64_t* number,
                           std::vector<ScriptStep>* out) {
  const pb::FieldDescriptor* field = parent.message().GetDescriptor()->FindFieldByName("step");
  const int count = parent.message().GetReflection()->FieldSize(parent.message(), field);
  for (int i = 0; i < count; ++i) {
    const Located located = parent.Child(field, i);
    if (*number == kStepsMax) {
      return located.Wrong(base::Format("more than %llu steps", static_cast<unsigned long long>(kStepsMax)));
    }
    const auto& step = dynamic_cast<const ckpt_pb::Step&>(located.message());
    out->push_back({.step = &step,
                    .place = located.place(),
                    .input = InputPlace(located),
                    .number = (*number)++,
                    .body = {}});
    if (!step.has_repeat()) continue;
    if (depth == kRepeatDepthMax) {
      return located.Wrong(base::Format("repeat inside more than %u others", kRepeatDepthMax - 1));
    }
    TRY_VOID(Collect(located.Child("repeat"), depth + 1, number, &out->back().body));
  }
  return {};
}

}  // namespace

base::Result<Script> Script::Load(const std::string& path) {
  const std::string text = TRY(base::ReadTextFile("workload", path, kScriptBytesMax));
  return Parse(path, text);
}

base::Result<Script> Script::Parse(const std::string& path, std::string_view text) {
  Script script;
  script.path_ = base::Printable(path, 4096);
  script.workload_ = std::make_unique<ckpt_pb::Workload>();
  pb::TextFormat::ParseInfoTree tree;
  FirstError errors(script.path_, text);
  {
    pb::LogSilencer quiet;  // errors come back as values
    pb::TextFormat::Parser parser;
    parser.RecordErrorsTo(&errors);
    parser.WriteLocationsTo(&tree);
    parser.SetRecursionLimit(32);
    if (!parser.ParseFromString(std::string(text), script.workload_.get()))
      return std::unexpected(errors.Take());
  }
  const Located root(script.path_, *script.workload_, &tree, Place{});
  TRY_VOID(CheckTexts(root));
  uint64_t number = 0;
  TRY_VOID(Collect(root, 0, &number, &script.steps_));
  ScriptNames names = TRY(CheckWorkload(root));
  for (int i = 0; i < script.workload_->file_size(); ++i) {
    script.file_places_.push_back(FilePlace(root.Child("file", i)));
  }
  script.processes_ = std::move(names.processes);
  script.labels_ = std::move(names.labels);
  return script;
}

uint64_t Script::HashUpTo(size_t step_count) const {
  CHECK(step_count <= steps_.size());
  ckpt_pb::Workload part;
  part.set_name(workload_->name());
  part.set_seed(workload_->seed());
  *part.mutable_machine() = workload_->machine();
  *part.mutable_file() = workload_->file();
  *part.mutable_process() = workload_->process();
  for (size_t i = 0; i < step_count; ++i) *part.add_step() = workload_->step(static_cast<int>(i));
  const std::string bytes = part.SerializeAsString();
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::string OpName(const ckpt_pb::Step& step) {
  const pb::OneofDescriptor* op = ckpt_pb::Step::descriptor()->FindOneofByName("op");
  const pb::FieldDescriptor* field = step.GetReflection()->GetOneofFieldDescriptor(step, op);
  return field == nullptr ? "none" : field->name();
}

uint64_t SizeOr(const std::string& text, uint64_t absent) {
  if (text.empty()) return absent;
  const base::Result<uint64_t> size = base::ParseSize(text);
  CHECK(size.has_value());  // CheckTexts read it before
  return *size;
}

}  // namespace workload
