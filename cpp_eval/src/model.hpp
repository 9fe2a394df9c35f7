// An ONNX file loaded into ONNX Runtime.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace harness {

/// How the runtime is asked to work.
struct RuntimeOptions {
    /// "cpu", "cuda", or an execution provider's own name.
    std::string provider = "cpu";
    /// The provider's own options.
    std::map<std::string, std::string> provider_options;
    /// Threads inside an operator; 0: as many as the process may use.
    int threads = 0;
    /// "disable", "basic", "extended" or "all".
    std::string optimization_level = "all";
};

/// The names of the optimisation levels.
[[nodiscard]] std::vector<std::string> optimization_levels();

/// Version of the ONNX Runtime library in use.
[[nodiscard]] std::string runtime_version();

struct TensorInfo {
    std::string name;
    ONNXTensorElementDataType type;
    /// -1 stands for any extent.
    std::vector<std::int64_t> shape;
};

/// "float32 (*, 3, 224, 224)".
[[nodiscard]] std::string to_string(const TensorInfo& tensor);

/// Whether a tensor is float32 and has these extents; -1 stands for any, on either side.
[[nodiscard]] bool fits(const TensorInfo& tensor, std::span<const std::int64_t> shape);

/// The library's interface, which every object of the runtime needs from its making to its end. Throws
/// BadInput where the library is older than the headers this program was built with.
struct RuntimeLibrary {
    RuntimeLibrary();
};

/// A network with one input. Throws BadInput.
class Model {
  public:
    Model(std::filesystem::path path, const RuntimeOptions& options);

    [[nodiscard]] const TensorInfo& input() const { return input_; }
    /// The output that `run` returns: the first, or the one chosen.
    [[nodiscard]] const TensorInfo& output() const { return outputs_[output_]; }
    /// Takes the first output that fits the shape, or else the first without a declared one. `purpose`: what
    /// it is wanted for, for messages. Throws BadInput.
    void choose_output(std::span<const std::int64_t> shape, const std::string& purpose);
    /// The file's path, for messages.
    [[nodiscard]] std::string place() const { return path_.string(); }
    [[nodiscard]] const std::string& provider() const { return provider_; }
    [[nodiscard]] int threads() const { return threads_; }
    /// A value of the file's custom metadata.
    [[nodiscard]] std::optional<std::string> metadata(const std::string& key);

    /// Runs the network. `input` refers to memory of the caller.
    [[nodiscard]] Ort::Value run(const Ort::Value& input);

  private:
    RuntimeLibrary library_;  // first: without it the members below cannot even be destroyed
    std::filesystem::path path_;
    std::string provider_;
    int threads_;
    Ort::Env env_{nullptr};
    Ort::Session session_{nullptr};
    TensorInfo input_;
    std::vector<TensorInfo> outputs_;
    std::size_t output_ = 0;
};

}  // namespace harness
