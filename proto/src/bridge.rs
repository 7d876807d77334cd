//! The messages of broker and bridge, as `proto/bridge.proto` describes them.
