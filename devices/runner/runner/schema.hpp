// Checks a document against a JSON Schema, as far as this project's schemas go.

#ifndef EBBTIDE_RUNNER_SCHEMA_HPP_
#define EBBTIDE_RUNNER_SCHEMA_HPP_

#include <string>

#include "runner/strict_json.hpp"

namespace ebbtide {

// Refuse a document that the schema does not allow. `schema` is the text of a JSON Schema (draft 2020-12) whose
// keywords are those that pydantic writes; another keyword is an error of ours (std::logic_error), so that nothing is
// silently left unchecked. A number bounded by the largest float32 must be a float32.
//
// Throws bundle.manifest_unknown_key, _missing_key or _value with the JSON path: an unknown key first, since a mistyped
// key is also a missing one and says more, else the first fault in the order of the schema.
void check_schema(const std::string& schema, const Json& document);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_SCHEMA_HPP_
