#include "runner/strict_json.hpp"

#include <cstdint>
#include <set>
#include <vector>

#include "core/error.hpp"

namespace ebbtide {
namespace {

constexpr std::size_t kMaxDepth = 32;
constexpr std::size_t kMaxFloatCharacters = 400;
constexpr std::uint64_t kMaxInteger = (std::uint64_t{1} << 53) - 1;

[[noreturn]] void refuse(const std::string& message) {
  throw Error("bundle.manifest_syntax", message, {.expected = "one strict JSON object in UTF-8", .place = "$"});
}

// Looks at what a tree no longer shows: keys that stand twice, depth, and how numbers were written.
class Inspector final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }

  bool number_integer(number_integer_t value) override {
    if (value < -static_cast<std::int64_t>(kMaxInteger)) refuse_integer(std::to_string(value));
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (value > kMaxInteger) refuse_integer(std::to_string(value));
    return true;
  }

  bool number_float(number_float_t, const string_t& text) override {
    // An integer that no 64 bits hold arrives here, too.
    if (text.find_first_of(".eE") == std::string::npos) refuse_integer(text.substr(0, 24));
    if (text.size() > kMaxFloatCharacters) refuse("A number is written with too many digits.");
    return true;
  }

  bool start_object(std::size_t) override {
    descend();
    keys_.emplace_back();
    return true;
  }

  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) refuse("The key " + name + " stands twice in one object.");
    return true;
  }

  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return true;
  }

  bool start_array(std::size_t) override {
    descend();
    return true;
  }

  bool end_array() override {
    --depth_;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    refuse("The manifest is not JSON at byte " + std::to_string(position) + ".");
  }

 private:
  void descend() {
    if (++depth_ > kMaxDepth) refuse("The manifest nests deeper than " + std::to_string(kMaxDepth) + " levels.");
  }

  [[noreturn]] static void refuse_integer(const std::string& text) {
    refuse("The integer " + text + " is beyond 2^53 - 1, which not every reader can hold.");
  }

  std::vector<std::set<std::string>> keys_;
  std::size_t depth_ = 0;
};

}  // namespace

Json parse_strict(std::string_view data) {
  if (data.size() > kMaxManifestBytes) {
    refuse("The manifest has " + std::to_string(data.size()) + " bytes, more than the " +
           std::to_string(kMaxManifestBytes) + " that readers accept.");
  }
  if (data.starts_with("\xef\xbb\xbf")) refuse("The manifest begins with a byte order mark.");
  Inspector inspector;
  Json::sax_parse(data, &inspector);
  Json value = Json::parse(data);
  if (!value.is_object()) refuse("The manifest is not a JSON object.");
  return value;
}

Json drop_extensions(const Json& value, const std::string& path) {
  if (value.is_array()) {
    Json kept = Json::array();
    for (std::size_t i = 0; i < value.size(); ++i) {
      kept.push_back(drop_extensions(value[i], path + "[" + std::to_string(i) + "]"));
    }
    return kept;
  }
  if (!value.is_object()) return value;
  Json kept = Json::object();
  for (const auto& [key, item] : value.items()) {
    const std::string place = path + "." + key;
    if (!key.starts_with("x_")) {
      kept[key] = drop_extensions(item, place);
    } else if (!item.is_object()) {
      throw Error("bundle.manifest_value", "The extension " + key + " is not an object.",
                  {.expected = "an object", .found = item.type_name(), .place = place});
    }
  }
  return kept;
}

}  // namespace ebbtide
