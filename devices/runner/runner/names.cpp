#include "runner/names.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>

namespace ebbtide {
namespace {

constexpr std::size_t kMaxNameBytes = 240;
constexpr std::size_t kMaxSegmentBytes = 120;
constexpr std::size_t kMaxSegments = 8;

// Unicode text mapped by utf8proc; the text itself where it is not UTF-8, which the JSON parser has refused before.
std::string mapped(const std::string& text, int options) {
  utf8proc_uint8_t* made = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &made, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
  return size < 0 ? text : std::string(reinterpret_cast<const char*>(made), static_cast<std::size_t>(size));
}

std::string composed(const std::string& text) { return mapped(text, UTF8PROC_STABLE | UTF8PROC_COMPOSE); }

// The key under which two names are the same file on a system that ignores case or composition.
std::string fold(const std::string& name) {
  return composed(mapped(composed(name), UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD));
}

std::vector<std::string> segments_of(const std::string& name) {
  std::vector<std::string> segments(1);
  for (const char letter : name) {
    if (letter == '/') {
      segments.emplace_back();
    } else {
      segments.back() += letter;
    }
  }
  return segments;
}

bool is_device(const std::string& segment) {
  static const std::set<std::string> devices = [] {
    std::set<std::string> names = {"con", "prn", "aux", "nul"};
    for (const char* port : {"com", "lpt"}) {
      for (const char* number : {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³"}) {
        names.insert(std::string(port) + number);
      }
    }
    return names;
  }();
  return devices.contains(fold(segment.substr(0, segment.find('.'))));
}

std::optional<std::string> fault_of_segment(const std::string& segment) {
  if (segment.empty()) return "has an empty segment";
  if (segment == "." || segment == "..") return "has a segment '" + segment + "'";
  if (segment.back() == '.' || segment.back() == ' ' || segment.front() == ' ') {
    return "has a segment that begins with a space or ends in a space or a dot";
  }
  if (segment.size() > kMaxSegmentBytes) return "has a segment of more than 120 bytes";
  if (is_device(segment)) return "has a segment that names a device on Windows";
  return std::nullopt;
}

std::string joined(const std::vector<std::string>& parts, std::size_t count) {
  std::string text = parts.front();
  for (std::size_t i = 1; i < count; ++i) text += "/" + parts[i];
  return text;
}

}  // namespace

std::optional<std::string> fault_of_name(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameBytes) return "has " + std::to_string(name.size()) + " bytes, not 1 to 240";
  if (name.front() == '/') return "is absolute";
  const auto is_forbidden = [](char letter) {
    const auto byte = static_cast<unsigned char>(letter);
    return byte < 32 || byte == 127 || std::string("<>:\"|?*\\").find(letter) != std::string::npos;
  };
  if (std::any_of(name.begin(), name.end(), is_forbidden)) {
    return "holds a control character or one of < > : \" | ? * \\";
  }
  if (name != composed(name)) return "is not in Unicode normal form C";
  const std::string folded = fold(name);
  if (folded == kManifestName || folded == kSignatureName || folded == kPayloadName) {
    return "is the name of one of the bundle's own files";
  }
  const std::vector<std::string> segments = segments_of(name);
  if (segments.size() > kMaxSegments) return "has more than 8 segments";
  for (const std::string& segment : segments) {
    if (auto fault = fault_of_segment(segment)) return fault;
  }
  return std::nullopt;
}

std::optional<Collision> fault_of_set(const std::vector<std::string>& names) {
  std::map<std::string, std::string> files;
  std::map<std::string, std::string> folders;
  for (std::size_t index = 0; index < names.size(); ++index) {
    const std::string& name = names[index];
    const std::string key = fold(name);
    if (const auto same = files.find(key); same != files.end()) {
      if (same->second == name) return Collision{index, "is listed twice"};
      return Collision{index, "differs from " + same->second + " only in case"};
    }
    if (folders.contains(key)) return Collision{index, "is a folder of " + folders[key]};
    const std::vector<std::string> parts = segments_of(key);
    const std::vector<std::string> spelled = segments_of(name);
    for (std::size_t length = 1; length < parts.size(); ++length) {
      const std::string folder = joined(parts, length);
      if (files.contains(folder)) return Collision{index, "lies in " + folder + ", which is a file"};
      const std::string& first = folders.try_emplace(folder, name).first->second;
      if (joined(segments_of(first), length) != joined(spelled, length)) {
        return Collision{index, "lies in a folder that differs from that of " + first + " only in case"};
      }
    }
    files[key] = name;
  }
  return std::nullopt;
}

}  // namespace ebbtide
