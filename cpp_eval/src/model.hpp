// An ONNX file loaded into ONNX Runtime.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
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

/// The library's interface, which every object of the runtime needs from its making to its end. Throws
/// BadInput where the library is older than the headers this program was built with.
struct RuntimeLibrary {
    RuntimeLibrary();
};

/// A network with one input; of several outputs the first counts. Throws BadInput.
class Model {
  public:
    Model(std::filesystem::path path, const RuntimeOptions& options);

    [[nodiscard]] const TensorInfo& input() const { return input_; }
    [[nodiscard]] const TensorInfo& output() const { return output_; }
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
    TensorInfo output_;
};

}  // namespace harness
