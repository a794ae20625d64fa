// Package config reads one YAML file into a struct with yaml tags, strictly, and lets the environment override every
// key: FIRN_KAFKA_BROKERS is kafka.brokers, FIRN_PIPELINES_0_TOPIC is pipelines[0].topic.
//
// Rules
//   - Only fields with a yaml tag are configuration. A key that no field has is an error that names the nearest key,
//     and so is a FIRN_ variable. Errors say file, line and column, show the line with a caret, and come all at once.
//   - The order is: what the struct held before, the file, the environment. A list element or map value starts from its
//     type's SetDefaults, when it has one.
//   - Then, from the leaves up, WithDefaults (when the type has one) fills what is unset and Validate checks; an error
//     of Validate that starts with a key's name is shown at that key. A field tagged config:"novalidate" is left to
//     the program.
//   - Values of units.Secret stand in no error: they are masked in the lines shown.
//   - Input is bounded: maxFileBytes, maxDepth, maxNodes (aliases count each time).
package config
