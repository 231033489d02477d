// Changes of a protobuf message that keep it one: fields set and cleared, elements added, removed, moved and
// repeated, fields of later versions added, numbers changed, mostly to ones that stand elsewhere in the
// message or next to those. It knows no schema: what is new in one is changed too.
#pragma once

#include <google/protobuf/message.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/random.h"

namespace fuzz {

// One change. `words` are what texts may become.
void ChangeMessage(google::protobuf::Message& message, base::Random& random,
                   std::span<const std::string_view> words);

// An empty message of what sections of this type hold; null for one that holds something else.
std::unique_ptr<google::protobuf::Message> MessageOfSection(uint32_t type);

// `payload` of a section of this type after one change, which keeps it a message if it was one.
std::string ChangedPayload(uint32_t type, const std::string& payload, base::Random& random, size_t size_max);

}  // namespace fuzz
