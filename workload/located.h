// Located: a message of a workload file together with the places of its fields, for error messages.
#pragma once

#include <google/protobuf/text_format.h>

#include <string>

#include "base/error.h"
#include "workload/script.h"

namespace workload {

class Located {
 public:
  // `tree` may be null: then every place is that of the message.
  Located(const std::string& path, const google::protobuf::Message& message,
          const google::protobuf::TextFormat::ParseInfoTree* tree, Place place)
      : path_(path), message_(message), tree_(tree), place_(place) {}

  const google::protobuf::Message& message() const { return message_; }
  Place place() const { return place_; }

  // Where a field stands (`index` of a repeated one), or the message where it is not written down.
  Place Of(const google::protobuf::FieldDescriptor* field, int index = -1) const;
  Place Of(const char* field, int index = -1) const;
  // A message inside this one. Requires: it is set.
  Located Child(const google::protobuf::FieldDescriptor* field, int index = -1) const;
  Located Child(const char* field, int index = -1) const;

  // "PATH:LINE:COLUMN: what", kInvalid, at the message or at one of its fields.
  std::unexpected<base::Error> Wrong(const std::string& what) const { return WrongAt(place_, what); }
  std::unexpected<base::Error> Wrong(const char* field, const std::string& what, int index = -1) const {
    return WrongAt(Of(field, index), what);
  }
  std::unexpected<base::Error> WrongAt(Place place, const std::string& what) const;

 private:
  const google::protobuf::FieldDescriptor* Field(const char* name) const;

  const std::string& path_;
  const google::protobuf::Message& message_;
  const google::protobuf::TextFormat::ParseInfoTree* tree_;
  Place place_;
};

// Every text of the message and all in it is printable UTF-8, every size can be read and is at most
// kSizeMax.
base::Result<void> CheckTexts(const Located& located);

}  // namespace workload
