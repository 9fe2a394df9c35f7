#include "model.hpp"

#include <algorithm>
#include <array>
#include <thread>
#include <utility>

#include "error.hpp"

namespace harness {

namespace {

constexpr std::array kLevels = {std::pair{"disable", ORT_DISABLE_ALL}, std::pair{"basic", ORT_ENABLE_BASIC},
                                std::pair{"extended", ORT_ENABLE_EXTENDED}, std::pair{"all", ORT_ENABLE_ALL}};

// The work of an operator is cut into blocks of a fourth of a thread's share of what is left, and threads
// take the next one when they are done: when images are read meanwhile, which takes a core away, the other
// threads go on with its work instead of waiting for it.
constexpr const char* kSmallBlocks = "4";

std::string provider_name(const std::string& option) {
    if (option == "cpu") return "CPUExecutionProvider";
    if (option == "cuda") return "CUDAExecutionProvider";
    return option;
}

void append_cuda(Ort::SessionOptions& session_options, const std::map<std::string, std::string>& options) {
    OrtCUDAProviderOptionsV2* created = nullptr;
    Ort::ThrowOnError(Ort::GetApi().CreateCUDAProviderOptions(&created));
    const auto release = [](OrtCUDAProviderOptionsV2* cuda) {
        Ort::GetApi().ReleaseCUDAProviderOptions(cuda);
    };
    const std::unique_ptr<OrtCUDAProviderOptionsV2, decltype(release)> cuda(created, release);
    std::vector<const char*> keys;
    std::vector<const char*> values;
    for (const auto& [key, value] : options) {
        keys.push_back(key.c_str());
        values.push_back(value.c_str());
    }
    Ort::ThrowOnError(
        Ort::GetApi().UpdateCUDAProviderOptions(cuda.get(), keys.data(), values.data(), keys.size()));
    session_options.AppendExecutionProvider_CUDA_V2(*cuda);
}

// Which of a provider's names the library knows it by here differs from provider to provider.
void append_by_name(Ort::SessionOptions& session_options, const std::string& provider,
                    const std::unordered_map<std::string, std::string>& options) {
    try {
        session_options.AppendExecutionProvider(provider, options);
    } catch (const Ort::Exception&) {
        session_options.AppendExecutionProvider(provider.substr(0, provider.find("ExecutionProvider")),
                                                options);
    }
}

void append_provider(Ort::SessionOptions& session_options, const std::string& provider,
                     const std::map<std::string, std::string>& options) {
    const auto available = Ort::GetAvailableProviders();
    if (std::ranges::find(available, provider) == available.end()) {
        std::string known;
        for (const std::string& name : available) known += (known.empty() ? "" : ", ") + name;
        throw BadInput("--provider: expected one of this library's " + known + ", got " + provider);
    }
    if (provider == "CPUExecutionProvider") {
        if (!options.empty()) throw BadInput("--provider-option: the CPU provider has no options");
    } else if (provider == "CUDAExecutionProvider") {
        append_cuda(session_options, options);
    } else {
        append_by_name(session_options, provider, {options.begin(), options.end()});
    }
}

// What is no tensor has no type.
TensorInfo tensor_info(std::string name, const Ort::TypeInfo& type) {
    if (type.GetONNXType() != ONNX_TYPE_TENSOR)
        return {std::move(name), ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, {}};
    const auto tensor = type.GetTensorTypeAndShapeInfo();
    return {std::move(name), tensor.GetElementType(), tensor.GetShape()};
}

// Some exporters leave an output without a shape.
bool is_undeclared(const TensorInfo& tensor) {
    return tensor.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT && tensor.shape.empty();
}

std::string type_name(ONNXTensorElementDataType type) {
    switch (type) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
            return "float32";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
            return "float16";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE:
            return "float64";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
            return "uint8";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
            return "int8";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
            return "int64";
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED:
            return "no tensor";
        default:
            return "type " + std::to_string(type);
    }
}

}  // namespace

std::vector<std::string> optimization_levels() {
    std::vector<std::string> names;
    for (const auto& [name, level] : kLevels) names.emplace_back(name);
    return names;
}

std::string runtime_version() {
    return OrtGetApiBase()->GetVersionString();
}

std::string to_string(const TensorInfo& tensor) {
    std::string extents;
    for (const std::int64_t extent : tensor.shape) {
        extents += (extents.empty() ? "" : ", ") + (extent < 0 ? "*" : std::to_string(extent));
    }
    return type_name(tensor.type) + " (" + extents + ")";
}

bool fits(const TensorInfo& tensor, std::span<const std::int64_t> shape) {
    const auto same = [](std::int64_t found, std::int64_t wanted) {
        return found < 0 || wanted < 0 || found == wanted;
    };
    return tensor.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT &&
           std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end(), same);
}

RuntimeLibrary::RuntimeLibrary() {
    const OrtApi* api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (api == nullptr) {
        throw BadInput("expected ONNX Runtime 1." + std::to_string(ORT_API_VERSION) +
                       " or newer, as the headers are, got " + runtime_version());
    }
    Ort::InitApi(api);
}

Model::Model(std::filesystem::path path, const RuntimeOptions& options)
    : path_(std::move(path)),
      provider_(provider_name(options.provider)),
      threads_(options.threads > 0 ? options.threads
                                   : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))) {
    if (!std::filesystem::is_regular_file(path_))
        throw BadInput(place() + ": expected an ONNX file, found none");
    try {
        env_ = Ort::Env(ORT_LOGGING_LEVEL_FATAL, "harness_eval");
        Ort::SessionOptions session_options;
        session_options.SetIntraOpNumThreads(threads_);
        session_options.AddConfigEntry("session.dynamic_block_base", kSmallBlocks);
        const auto level = std::ranges::find(kLevels, options.optimization_level,
                                             [](const auto& entry) { return entry.first; });
        session_options.SetGraphOptimizationLevel(level->second);
        append_provider(session_options, provider_, options.provider_options);
        session_ = Ort::Session(env_, path_.c_str(), session_options);

        Ort::AllocatorWithDefaultOptions allocator;
        if (session_.GetInputCount() != 1 || session_.GetOutputCount() == 0) {
            throw BadInput(place() + ": expected one input and an output, got " +
                           std::to_string(session_.GetInputCount()) + " and " +
                           std::to_string(session_.GetOutputCount()));
        }
        input_ =
            tensor_info(session_.GetInputNameAllocated(0, allocator).get(), session_.GetInputTypeInfo(0));
        for (std::size_t i = 0; i < session_.GetOutputCount(); ++i) {
            outputs_.push_back(tensor_info(session_.GetOutputNameAllocated(i, allocator).get(),
                                           session_.GetOutputTypeInfo(i)));
        }
    } catch (const Ort::Exception& error) {
        throw BadInput(place() + ": " + error.what());
    }
}

std::optional<std::string> Model::metadata(const std::string& key) {
    Ort::AllocatorWithDefaultOptions allocator;
    const auto value = session_.GetModelMetadata().LookupCustomMetadataMapAllocated(key.c_str(), allocator);
    return value ? std::optional<std::string>(value.get()) : std::nullopt;
}

void Model::choose_output(std::span<const std::int64_t> shape, const std::string& purpose) {
    const auto fitting = [&](const TensorInfo& tensor) { return fits(tensor, shape); };
    auto chosen = std::ranges::find_if(outputs_, fitting);
    if (chosen == outputs_.end()) chosen = std::ranges::find_if(outputs_, is_undeclared);
    if (chosen == outputs_.end()) {
        std::string found;
        for (const TensorInfo& tensor : outputs_) found += (found.empty() ? "" : ", ") + to_string(tensor);
        const TensorInfo expected{"", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {shape.begin(), shape.end()}};
        throw BadInput(place() + ": outputs: expected " + to_string(expected) + " for " + purpose + ", got " +
                       found);
    }
    output_ = static_cast<std::size_t>(chosen - outputs_.begin());
}

Ort::Value Model::run(const Ort::Value& input) {
    const char* input_name = input_.name.c_str();
    const char* output_name = output().name.c_str();
    try {
        auto outputs = session_.Run(Ort::RunOptions{nullptr}, &input_name, &input, 1, &output_name, 1);
        return std::move(outputs.front());
    } catch (const Ort::Exception& error) {
        throw BadInput(place() + ": " + error.what());
    }
}

}  // namespace harness
