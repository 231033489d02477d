#include "tests/fuzz/message_mutator.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/unknown_field_set.h>

#include <bit>
#include <vector>

#include "proto/format.h"
#include "proto/image.pb.h"
#include "proto/metadata.h"
#include "tests/fuzz/harness.h"

namespace fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kMessagesMax = 2000;
constexpr int kElementsMax = 2000;

// Numbers that mean something to somebody: ends of types, pages, limits of formats.
constexpr uint64_t kNumbers[] = {0,          1,          2,          3,          8,          255,
                                 256,        4095,       4096,       4097,       1u << 18,   1u << 20,
                                 1u << 26,   INT32_MAX,  0x80000000, UINT32_MAX, 1ull << 32, 1ull << 40,
                                 1ull << 46, 1ull << 47, 1ull << 48, 1ull << 52, 1ull << 63, UINT64_MAX};

class Changer {
 public:
  Changer(base::Random& random, std::span<const std::string_view> words) : random_(random), words_(words) {}

  void Change(Message& root) {
    Collect(root);
    Message& message = *messages_[random_.Below(messages_.size())];
    const auto& type = *message.GetDescriptor();
    if (OneIn(64)) {  // A field of a later version.
      message.GetReflection()->MutableUnknownFields(&message)->AddVarint(1000, random_.Next());
      return;
    }
    if (type.field_count() == 0) return;
    const FieldDescriptor& field =
        *type.field(static_cast<int>(random_.Below(static_cast<uint64_t>(type.field_count()))));
    if (field.is_repeated()) {
      ChangeRepeated(message, field);
    } else {
      ChangeSingle(message, field);
    }
  }

 private:
  bool OneIn(uint64_t n) { return random_.Below(n) == 0; }

  // The messages in the tree, and some of the numbers.
  void Collect(Message& message) {
    if (messages_.size() >= kMessagesMax) return;
    messages_.push_back(&message);
    const Reflection& reflection = *message.GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
      const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
      for (int i = 0; i < count && i < kElementsMax; ++i) {
        if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
          Collect(field->is_repeated() ? *reflection.MutableRepeatedMessage(&message, field, i)
                                       : *reflection.MutableMessage(&message, field));
        } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_UINT64 ||
                   field->cpp_type() == FieldDescriptor::CPPTYPE_UINT32) {
          numbers_.push_back(Number(message, *field, field->is_repeated() ? i : -1));
        }
      }
    }
  }

  // `at` is -1 for a field that is not repeated.
  static uint64_t Number(const Message& message, const FieldDescriptor& field, int at) {
    const Reflection& reflection = *message.GetReflection();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_UINT64:
        return at < 0 ? reflection.GetUInt64(message, &field)
                      : reflection.GetRepeatedUInt64(message, &field, at);
      case FieldDescriptor::CPPTYPE_UINT32:
        return at < 0 ? reflection.GetUInt32(message, &field)
                      : reflection.GetRepeatedUInt32(message, &field, at);
      case FieldDescriptor::CPPTYPE_INT64:
        return static_cast<uint64_t>(at < 0 ? reflection.GetInt64(message, &field)
                                            : reflection.GetRepeatedInt64(message, &field, at));
      case FieldDescriptor::CPPTYPE_ENUM:
        return static_cast<uint64_t>(at < 0 ? reflection.GetEnumValue(message, &field)
                                            : reflection.GetRepeatedEnumValue(message, &field, at));
      default: return 0;
    }
  }

  uint64_t ChangedNumber(uint64_t number) {
    switch (random_.Below(8)) {
      case 0: return number + 1;
      case 1: return number - 1;
      case 2: return number ^ (uint64_t{1} << random_.Below(64));
      case 3: return number + (random_.Below(33) - 16) * 4096;
      case 4: return kNumbers[random_.Below(std::size(kNumbers))];
      case 5: return random_.Next() >> random_.Below(64);
      default:
        if (numbers_.empty()) return random_.Below(16);
        return numbers_[random_.Below(numbers_.size())] + random_.Below(3) - 1;
    }
  }

  std::string ChangedText(const std::string& text) {
    if (words_.empty() || OneIn(4)) return ChangedBytes(text, text.size() + 16);
    const std::string word(words_[random_.Below(words_.size())]);
    return OneIn(4) ? text + word : word;
  }

  void ChangeSingle(Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    if (OneIn(8)) return reflection.ClearField(&message, &field);
    const uint64_t number = ChangedNumber(Number(message, field, -1));
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_UINT64: return reflection.SetUInt64(&message, &field, number);
      case FieldDescriptor::CPPTYPE_UINT32:
        return reflection.SetUInt32(&message, &field, static_cast<uint32_t>(number));
      case FieldDescriptor::CPPTYPE_INT64:
        return reflection.SetInt64(&message, &field, static_cast<int64_t>(number));
      case FieldDescriptor::CPPTYPE_INT32:
        return reflection.SetInt32(&message, &field, static_cast<int32_t>(number));
      case FieldDescriptor::CPPTYPE_ENUM: return reflection.SetEnumValue(&message, &field, SomeEnum(field));
      case FieldDescriptor::CPPTYPE_BOOL:
        return reflection.SetBool(&message, &field, !reflection.GetBool(message, &field));
      case FieldDescriptor::CPPTYPE_DOUBLE: return reflection.SetDouble(&message, &field, SomeDouble());
      case FieldDescriptor::CPPTYPE_FLOAT:
        return reflection.SetFloat(&message, &field, static_cast<float>(SomeDouble()));
      case FieldDescriptor::CPPTYPE_STRING:
        return reflection.SetString(&message, &field, ChangedText(reflection.GetString(message, &field)));
      case FieldDescriptor::CPPTYPE_MESSAGE: reflection.MutableMessage(&message, &field); return;
    }
  }

  int SomeEnum(const FieldDescriptor& field) {
    if (OneIn(8)) return static_cast<int>(random_.Below(20)) - 1;
    return field.enum_type()
        ->value(static_cast<int>(random_.Below(static_cast<uint64_t>(field.enum_type()->value_count()))))
        ->number();
  }

  double SomeDouble() { return OneIn(4) ? std::bit_cast<double>(random_.Next()) : random_.Unit() * 4 - 1; }

  void Add(Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    const uint64_t number = ChangedNumber(0);
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_UINT64: return reflection.AddUInt64(&message, &field, number);
      case FieldDescriptor::CPPTYPE_UINT32:
        return reflection.AddUInt32(&message, &field, static_cast<uint32_t>(number));
      case FieldDescriptor::CPPTYPE_INT64:
        return reflection.AddInt64(&message, &field, static_cast<int64_t>(number));
      case FieldDescriptor::CPPTYPE_ENUM: return reflection.AddEnumValue(&message, &field, SomeEnum(field));
      case FieldDescriptor::CPPTYPE_STRING: return reflection.AddString(&message, &field, ChangedText(""));
      case FieldDescriptor::CPPTYPE_MESSAGE: AddMessage(message, field); return;
      default: return;
    }
  }

  void AddMessage(Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    const int size = reflection.FieldSize(message, &field);
    Message& added = *reflection.AddMessage(&message, &field);
    if (size == 0) return;
    added.CopyFrom(reflection.GetRepeatedMessage(
        message, &field, static_cast<int>(random_.Below(static_cast<uint64_t>(size)))));
  }

  void ChangeRepeated(Message& message, const FieldDescriptor& field) {
    const Reflection& reflection = *message.GetReflection();
    const int size = reflection.FieldSize(message, &field);
    if (size == 0) return Add(message, field);
    const auto any = [&] { return static_cast<int>(random_.Below(static_cast<uint64_t>(size))); };
    const int at = any();
    switch (random_.Below(8)) {
      case 0: return Add(message, field);
      case 1:
        for (uint64_t i = random_.Below(40); i > 0; --i) Add(message, field);
        return;
      case 2:
        reflection.SwapElements(&message, &field, at, size - 1);
        return reflection.RemoveLast(&message, &field);
      case 3: return reflection.SwapElements(&message, &field, at, any());
      default: return ChangeElement(message, field, at);
    }
  }

  void ChangeElement(Message& message, const FieldDescriptor& field, int at) {
    const Reflection& reflection = *message.GetReflection();
    const uint64_t number = ChangedNumber(Number(message, field, at));
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_UINT64: return reflection.SetRepeatedUInt64(&message, &field, at, number);
      case FieldDescriptor::CPPTYPE_UINT32:
        return reflection.SetRepeatedUInt32(&message, &field, at, static_cast<uint32_t>(number));
      case FieldDescriptor::CPPTYPE_INT64:
        return reflection.SetRepeatedInt64(&message, &field, at, static_cast<int64_t>(number));
      case FieldDescriptor::CPPTYPE_ENUM:
        return reflection.SetRepeatedEnumValue(&message, &field, at, SomeEnum(field));
      case FieldDescriptor::CPPTYPE_STRING:
        return reflection.SetRepeatedString(&message, &field, at,
                                            ChangedText(reflection.GetRepeatedString(message, &field, at)));
      case FieldDescriptor::CPPTYPE_MESSAGE: {
        Message& element = *reflection.MutableRepeatedMessage(&message, &field, at);
        const auto& type = *element.GetDescriptor();
        if (type.field_count() == 0) return;
        const FieldDescriptor& inner =
            *type.field(static_cast<int>(random_.Below(static_cast<uint64_t>(type.field_count()))));
        return inner.is_repeated() ? ChangeRepeated(element, inner) : ChangeSingle(element, inner);
      }
      default: return;
    }
  }

  base::Random& random_;
  const std::span<const std::string_view> words_;
  std::vector<Message*> messages_;
  std::vector<uint64_t> numbers_;
};

constexpr std::string_view kImageWords[] = {
    "random", "text",       "counter",        "zeros",        "a",           "../a", "a/b", "/",
    "",       "hints=base", "hints=writable", "dirty_rule=2", "/proc/self/", "\n",   "swap"};

}  // namespace

void ChangeMessage(Message& message, base::Random& random, std::span<const std::string_view> words) {
  Changer(random, words).Change(message);
}

std::unique_ptr<Message> MessageOfSection(uint32_t type) {
  switch (static_cast<image::SectionType>(type)) {
    case image::SectionType::kMachine: return std::make_unique<ckpt_pb::Machine>();
    case image::SectionType::kFiles: return std::make_unique<ckpt_pb::Files>();
    case image::SectionType::kProcesses: return std::make_unique<ckpt_pb::Processes>();
    case image::SectionType::kVmas: return std::make_unique<ckpt_pb::Vmas>();
    case image::SectionType::kGuest: return std::make_unique<ckpt_pb::Guest>();
    case image::SectionType::kParent: return std::make_unique<ckpt_pb::Parent>();
    case image::SectionType::kChunkRuns: return std::make_unique<ckpt_pb::ChunkRuns>();
    case image::SectionType::kTotals: return std::make_unique<ckpt_pb::Totals>();
    case image::SectionType::kIndex: return std::make_unique<ckpt_pb::Index>();
    default: return nullptr;
  }
}

std::string ChangedPayload(uint32_t type, const std::string& payload, base::Random& random, size_t size_max) {
  const std::unique_ptr<Message> message = MessageOfSection(type);
  if (message == nullptr || random.Below(8) == 0 || !message->ParseFromString(payload))
    return ChangedBytes(payload, size_max);
  ChangeMessage(*message, random, kImageWords);
  return image::Serialize(*message);
}

}  // namespace fuzz
