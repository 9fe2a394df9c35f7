#include "scoring/classifier.hpp"

#include <algorithm>
#include <array>

#include "error.hpp"

namespace harness {

Classifier::Classifier(Model& model, ImageShape shape, std::size_t classes)
    : model_(model), shape_(shape), classes_(classes) {
    const std::array<std::int64_t, 4> images = {-1, static_cast<std::int64_t>(shape.channels),
                                                static_cast<std::int64_t>(shape.height),
                                                static_cast<std::int64_t>(shape.width)};
    if (!fits(model.input(), images)) {
        const TensorInfo expected{"", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {images.begin(), images.end()}};
        throw BadInput(model.place() + ": input " + model.input().name + ": expected " + to_string(expected) +
                       " as in the bundle, got " + to_string(model.input()));
    }
    const std::array<std::int64_t, 2> logits = {-1, static_cast<std::int64_t>(classes)};
    model.choose_output(logits, "the bundle's classes");
    if (model.input().shape[0] > 0) fixed_batch_ = static_cast<std::size_t>(model.input().shape[0]);
}

std::span<const float> Classifier::logits(std::span<const float> x, std::size_t count) {
    if (fixed_batch_ == 0 || count == fixed_batch_) return run(x, count);
    padded_.assign(fixed_batch_ * shape_.size(), 0.0f);
    std::ranges::copy(x, padded_.begin());
    return run(padded_, fixed_batch_).first(count * classes_);
}

std::span<const float> Classifier::run(std::span<const float> x, std::size_t count) {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const std::array<std::int64_t, 4> extent = {
        static_cast<std::int64_t>(count), static_cast<std::int64_t>(shape_.channels),
        static_cast<std::int64_t>(shape_.height), static_cast<std::int64_t>(shape_.width)};
    // The runtime takes inputs as non-const pointers and does not write to them.
    const Ort::Value input = Ort::Value::CreateTensor<float>(memory, const_cast<float*>(x.data()), x.size(),
                                                             extent.data(), extent.size());
    output_ = model_.run(input);
    const auto info = output_.GetTensorTypeAndShapeInfo();
    const std::vector<std::int64_t> expected = {static_cast<std::int64_t>(count),
                                                static_cast<std::int64_t>(classes_)};
    if (info.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || info.GetShape() != expected) {
        throw BadInput(model_.place() + ": output " + model_.output().name + ": expected " +
                       to_string(TensorInfo{"", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, expected}) + ", got " +
                       to_string(TensorInfo{"", info.GetElementType(), info.GetShape()}));
    }
    return {output_.GetTensorData<float>(), count * classes_};
}

}  // namespace harness
