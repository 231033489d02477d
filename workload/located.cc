#include "workload/located.h"

#include "base/check.h"
#include "base/units.h"
#include "proto/workload.pb.h"
#include "workload/script.h"

namespace workload {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Reflection;

// Length of the well-formed UTF-8 sequence at the front of `text`, or 0.
size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) >= 0xa0)) return 0;
  if ((lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) >= 0x90)) return 0;
  return length;
}

bool IsPrintableUtf8(std::string_view text) {
  while (!text.empty()) {
    const auto lead = static_cast<unsigned char>(text.front());
    const size_t length = Utf8Length(text);
    if (length == 0 || lead < 0x20 || lead == 0x7f) return false;
    text.remove_prefix(length);
  }
  return true;
}

// Every byte that is not plain ASCII as \xNN.
std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char c : text.substr(0, 256)) {
    const auto byte = static_cast<unsigned char>(c);
    escaped += byte < 0x20 || byte >= 0x7f ? base::Format("\\x%02x", byte) : std::string(1, c);
  }
  return escaped;
}

base::Result<void> CheckText(const Located& located, const FieldDescriptor* field, int index,
                             const std::string& text) {
  const Place place = located.Of(field, index);
  if (text.size() > 64 * 1024) {
    return located.WrongAt(place, base::Format("a text of %zu bytes; at most 65536 are taken", text.size()));
  }
  if (field->type() == FieldDescriptor::TYPE_BYTES) return {};
  if (!IsPrintableUtf8(text)) {
    return located.WrongAt(place, base::Format("'%s' is not printable UTF-8 text", Escaped(text).c_str()));
  }
  if (!field->options().GetExtension(ckpt_pb::TextField::size) || text.empty()) return {};
  const base::Result<uint64_t> size = base::ParseSize(text);
  if (!size) return located.WrongAt(place, field->name() + ": " + size.error().what);
  if (*size > kSizeMax) {
    return located.WrongAt(place, base::Format("%s: '%s' is too large: at most 128TiB", field->name().c_str(),
                                               base::Printable(text).c_str()));
  }
  return {};
}

base::Result<void> CheckField(const Located& located, const FieldDescriptor* field, int index) {
  const google::protobuf::Message& message = located.message();
  const Reflection& reflection = *message.GetReflection();
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) return CheckTexts(located.Child(field, index));
  if (field->cpp_type() != FieldDescriptor::CPPTYPE_STRING) return {};
  return CheckText(
      located, field, index,
      index < 0 ? reflection.GetString(message, field) : reflection.GetRepeatedString(message, field, index));
}

}  // namespace

const FieldDescriptor* Located::Field(const char* name) const {
  const FieldDescriptor* field = message_.GetDescriptor()->FindFieldByName(name);
  CHECK_MSG(field != nullptr, name);
  return field;
}

Place Located::Of(const FieldDescriptor* field, int index) const {
  if (tree_ == nullptr) return place_;
  const auto location = tree_->GetLocation(field, index);
  return location.line < 0 ? place_ : Place{location.line + 1, location.column + 1};
}
Place Located::Of(const char* field, int index) const { return Of(Field(field), index); }

Located Located::Child(const FieldDescriptor* field, int index) const {
  const Reflection& reflection = *message_.GetReflection();
  const google::protobuf::Message& child = index < 0 ? reflection.GetMessage(message_, field)
                                                     : reflection.GetRepeatedMessage(message_, field, index);
  return Located(path_, child, tree_ == nullptr ? nullptr : tree_->GetTreeForNested(field, index),
                 Of(field, index));
}
Located Located::Child(const char* field, int index) const { return Child(Field(field), index); }

std::unexpected<base::Error> Located::WrongAt(Place place, const std::string& what) const {
  return base::Fail(base::Code::kInvalid, "%s:%d:%d: %s", path_.c_str(), place.line, place.column,
                    what.c_str());
}

base::Result<void> CheckTexts(const Located& located) {
  const google::protobuf::Message& message = located.message();
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (!field->is_repeated()) {
      TRY_VOID(CheckField(located, field, -1));
      continue;
    }
    const int count = message.GetReflection()->FieldSize(message, field);
    for (int i = 0; i < count; ++i) TRY_VOID(CheckField(located, field, i));
  }
  return {};
}

}  // namespace workload
