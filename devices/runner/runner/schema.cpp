#include "runner/schema.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <stdexcept>
#include <vector>

#include "core/error.hpp"

namespace ebbtide {
namespace {

// Keeps the order of the keys, which is that of the models' fields.
using Schema = nlohmann::ordered_json;

// No pattern of ours matches a longer text, and std::regex recurses once a character.
constexpr std::size_t kLongestPatternText = 256;

struct Fault {
  std::string code;
  std::string message;
  std::string place;
  std::string found;
};

std::size_t characters(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }));
}

class Checker {
 public:
  explicit Checker(const Schema& root) : root_(root) {}

  void check(const Schema& schema, const Json& value, const std::string& place) {
    if (schema.contains("$ref")) {
      const std::string& reference = schema.at("$ref").get_ref<const std::string&>();
      check(root_.at(Schema::json_pointer(reference.substr(1))), value, place);
      return;
    }
    if (schema.contains("anyOf")) {
      check_optional(schema.at("anyOf"), value, place);
      return;
    }
    refuse_unknown_keywords(schema);
    const std::string type = schema.at("type").get<std::string>();
    if (type == "object") {
      check_object(schema, value, place);
    } else if (type == "array") {
      check_array(schema, value, place);
    } else if (type == "string") {
      check_string(schema, value, place);
    } else if (type == "integer" || type == "number") {
      check_number(schema, value, place, type == "integer");
    } else if (type == "boolean") {
      if (!value.is_boolean()) fault("The value is not true or false.", place, value);
    } else {
      throw std::logic_error("schema type " + type);
    }
  }

  [[noreturn]] void raise() const {
    const auto first = std::find_if(faults_.begin(), faults_.end(),
                                    [](const Fault& fault) { return fault.code == "bundle.manifest_unknown_key"; });
    const Fault& chosen = first == faults_.end() ? faults_.front() : *first;
    throw Error(chosen.code, chosen.message, {.found = chosen.found, .place = chosen.place});
  }

  bool is_good() const { return faults_.empty(); }

 private:
  void fault(const std::string& message, const std::string& place, const Json& value) {
    const std::string shown = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    faults_.push_back({"bundle.manifest_value", message, place, shown.substr(0, 120)});
  }

  static void refuse_unknown_keywords(const Schema& schema) {
    static const std::set<std::string> known = {"$defs",
                                                "$schema",
                                                "additionalProperties",
                                                "const",
                                                "default",
                                                "description",
                                                "enum",
                                                "items",
                                                "maxItems",
                                                "maxLength",
                                                "maximum",
                                                "minItems",
                                                "minLength",
                                                "minimum",
                                                "pattern",
                                                "properties",
                                                "patternProperties",
                                                "required",
                                                "title",
                                                "type"};
    for (const auto& [key, unused] : schema.items()) {
      if (!known.contains(key)) throw std::logic_error("schema keyword " + key);
    }
  }

  void check_optional(const Schema& choices, const Json& value, const std::string& place) {
    if (choices.size() != 2 || choices.at(1).value("type", "") != "null") throw std::logic_error("schema anyOf");
    if (!value.is_null()) check(choices.at(0), value, place);
  }

  void check_object(const Schema& schema, const Json& value, const std::string& place) {
    if (!value.is_object()) return fault("The value is not an object.", place, value);
    std::set<std::string> required;
    for (const auto& name : schema.value("required", Schema::array())) required.insert(name.get<std::string>());
    const Schema& properties = schema.at("properties");
    for (const auto& [name, inner] : properties.items()) {
      const std::string where = place + "." + name;
      if (value.contains(name)) {
        check(inner, value.at(name), where);
      } else if (required.contains(name)) {
        faults_.push_back({"bundle.manifest_missing_key", "The key " + name + " is missing.", where, ""});
      }
    }
    for (const auto& [name, unused] : value.items()) {
      if (!properties.contains(name)) {
        faults_.push_back({"bundle.manifest_unknown_key", "The key " + name + " is not one that version 1 knows.",
                           place + "." + name, ""});
      }
    }
  }

  void check_array(const Schema& schema, const Json& value, const std::string& place) {
    if (!value.is_array()) return fault("The value is not a list.", place, value);
    if (value.size() > schema.value("maxItems", std::numeric_limits<std::size_t>::max())) {
      return fault("The list is too long.", place, value);
    }
    const std::size_t before = faults_.size();
    for (std::size_t i = 0; i < value.size(); ++i) {
      check(schema.at("items"), value[i], place + "[" + std::to_string(i) + "]");
    }
    if (faults_.size() == before && value.size() < schema.value("minItems", std::size_t{0})) {
      fault("The list is too short.", place, value);
    }
  }

  void check_string(const Schema& schema, const Json& value, const std::string& place) {
    if (!value.is_string()) return fault("The value is not a text.", place, value);
    const std::string& text = value.get_ref<const std::string&>();
    const std::size_t length = characters(text);
    if (length < schema.value("minLength", std::size_t{0}) ||
        length > schema.value("maxLength", std::numeric_limits<std::size_t>::max())) {
      return fault("The text is too short or too long.", place, value);
    }
    if (schema.contains("const") && schema.at("const") != text) return fault("The value is another.", place, value);
    if (schema.contains("enum")) {
      const Schema& allowed = schema.at("enum");
      if (std::find(allowed.begin(), allowed.end(), text) == allowed.end()) {
        return fault("The value is none of those allowed.", place, value);
      }
    }
    if (schema.contains("pattern") && !matches(schema.at("pattern").get<std::string>(), text)) {
      fault("The text does not match " + schema.at("pattern").get<std::string>() + ".", place, value);
    }
  }

  void check_number(const Schema& schema, const Json& value, const std::string& place, bool integer) {
    if (integer ? !value.is_number_integer() : !value.is_number()) {
      return fault(integer ? "The value is not an integer." : "The value is not a number.", place, value);
    }
    if (schema.contains("const") && value != schema.at("const").get<double>()) {
      return fault("The value is another.", place, value);
    }
    const double number = value.get<double>();  // exact: integers are within 2^53 - 1
    const double largest = schema.value("maximum", std::numeric_limits<double>::infinity());
    if (number < schema.value("minimum", -std::numeric_limits<double>::infinity()) || number > largest) {
      return fault("The number is out of range.", place, value);
    }
    const bool is_float32 = !integer && largest == static_cast<double>(std::numeric_limits<float>::max());
    if (is_float32 && static_cast<double>(static_cast<float>(number)) != number) {
      fault("The number is not a float32.", place, value);
    }
  }

  bool matches(const std::string& pattern, const std::string& text) {
    if (text.size() > kLongestPatternText) return false;
    auto [found, fresh] = patterns_.try_emplace(pattern);
    if (fresh) found->second = std::regex(pattern);
    return std::regex_match(text, found->second);
  }

  const Schema& root_;
  std::map<std::string, std::regex> patterns_;
  std::vector<Fault> faults_;
};

}  // namespace

void check_schema(const std::string& schema, const Json& document) {
  const Schema root = Schema::parse(schema);
  Checker checker(root);
  checker.check(root, document, "$");
  if (!checker.is_good()) checker.raise();
}

}  // namespace ebbtide
