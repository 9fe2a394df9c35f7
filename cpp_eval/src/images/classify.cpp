#include "images/classify.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <new>
#include <nlohmann/json.hpp>
#include <numeric>
#include <ostream>
#include <set>
#include <system_error>

#include "class_names.hpp"
#include "error.hpp"
#include "images/image.hpp"
#include "prefetch.hpp"
#include "progress.hpp"

namespace harness {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kImagesAhead = 4;
constexpr std::array<std::int64_t, 4> kExpectedInput = {-1, -1, -1, 3};
constexpr std::array<std::int64_t, 2> kExpectedOutput = {1, -1};

// A decoded file, or why it could not be decoded.
struct Item {
    std::filesystem::path path;
    Image image;
    std::string error;
};

class ImageSource {
  public:
    explicit ImageSource(std::vector<std::filesystem::path> files) : files_(std::move(files)) {}

    bool next(Item& item) {
        if (next_ == files_.size()) return false;
        item = {files_[next_++], {}, {}};
        std::error_code unreadable;
        if (std::filesystem::is_directory(item.path, unreadable)) {
            item.error = "expected a folder that can be read";
            return true;
        }
        try {
            item.image = read_image(item.path);
        } catch (const BadInput& error) {
            item.error = error.what();
        } catch (const std::bad_alloc&) {
            item.error = "expected an image that fits into memory";
        }
        return true;
    }

  private:
    std::vector<std::filesystem::path> files_;
    std::size_t next_ = 0;
};

void check_input(const Model& model) {
    const TensorInfo& input = model.input();
    const bool fitting = input.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 && input.shape.size() == 4 &&
                         (input.shape[3] < 0 || input.shape[3] == 3) && input.shape[0] <= 1;
    if (fitting) return;
    const TensorInfo expected{
        "", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, {kExpectedInput.begin(), kExpectedInput.end()}};
    throw BadInput(model.place() + ": input " + input.name + ": expected a deployment graph's " +
                   to_string(expected) + ", got " + to_string(input));
}

// Whether a folder's entry is to be classified: links that lead nowhere and what is no file too, so that they
// are reported.
bool is_image(const std::filesystem::directory_entry& entry) {
    static const std::set<std::string> suffixes = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng"};
    std::string suffix = entry.path().extension().string();
    std::ranges::transform(suffix, suffix.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    std::error_code unreadable;
    return suffixes.contains(suffix) && !entry.is_directory(unreadable);
}

// Appends the images in and below a folder, and each folder that cannot be read, so that it is reported.
void search(const std::filesystem::path& root, std::vector<std::filesystem::path>& files) {
    std::vector<std::filesystem::path> waiting = {root};
    while (!waiting.empty()) {
        const auto folder = std::move(waiting.back());
        waiting.pop_back();
        std::error_code unreadable;
        std::filesystem::directory_iterator entries(folder, unreadable);
        for (; !unreadable && entries != end(entries); entries.increment(unreadable)) {
            std::error_code unknown;
            if (is_image(*entries)) {
                files.push_back(entries->path());
            } else if (!entries->is_symlink(unknown) && entries->is_directory(unknown)) {
                waiting.push_back(entries->path());
            }
        }
        if (unreadable) files.push_back(folder);
    }
}

std::vector<float> probabilities(Model& model, const Image& image) {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const std::array<std::int64_t, 4> extent = {1, static_cast<std::int64_t>(image.height),
                                                static_cast<std::int64_t>(image.width), 3};
    for (const std::size_t axis : {std::size_t{1}, std::size_t{2}}) {
        const std::int64_t wanted = model.input().shape[axis];
        if (wanted >= 0 && wanted != extent[axis]) {
            throw BadInput("expected an image of the model's size, " + to_string(model.input()) +
                           ", got height " + std::to_string(image.height) + " and width " +
                           std::to_string(image.width));
        }
    }
    const Ort::Value input =
        Ort::Value::CreateTensor<std::uint8_t>(memory, const_cast<std::uint8_t*>(image.pixels.data()),
                                               image.pixels.size(), extent.data(), extent.size());
    const Ort::Value output = model.run(input);
    const auto info = output.GetTensorTypeAndShapeInfo();
    const auto found = info.GetShape();
    if (info.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || found.size() != 2 || found[0] != 1 ||
        found[1] == 0) {
        throw BadInput(model.place() + ": output " + model.output().name +
                       ": expected float32 (1, classes), got " +
                       to_string(TensorInfo{"", info.GetElementType(), found}));
    }
    const float* values = output.GetTensorData<float>();
    std::vector<float> probability(values, values + found[1]);
    if (!std::ranges::all_of(probability, [](float value) { return std::isfinite(value); })) {
        throw BadInput(model.place() + ": output " + model.output().name +
                       ": expected finite probabilities, got NaN or infinity");
    }
    return probability;
}

Json describe(const std::vector<float>& probability, const std::vector<std::string>& names, std::size_t top) {
    std::vector<std::size_t> ranked(probability.size());
    std::iota(ranked.begin(), ranked.end(), std::size_t{0});
    std::ranges::stable_sort(ranked, std::ranges::greater(), [&](std::size_t k) { return probability[k]; });
    const auto name = [&](std::size_t k) { return names.empty() ? std::to_string(k) : names[k]; };
    Json listed = Json::object();
    for (std::size_t i = 0; i < (top == 0 ? ranked.size() : std::min(top, ranked.size())); ++i) {
        // Straight to the end: a lookup for each name would make a long list slow.
        listed.get_ref<Json::object_t&>().emplace_back(name(ranked[i]), probability[ranked[i]]);
    }
    const std::size_t best = ranked.front();
    return {{"class", name(best)},
            {"index", best},
            {"probability", probability[best]},
            {"probabilities", std::move(listed)}};
}

Json classify_one(Model& model, const Item& item, const std::vector<std::string>& names, std::size_t top) {
    if (!item.error.empty()) throw BadInput(item.error);
    const auto probability = probabilities(model, item.image);
    if (!names.empty() && names.size() != probability.size()) {
        throw BadInput(model.place() + ": expected as many class names as outputs, got " +
                       std::to_string(names.size()) + " and " + std::to_string(probability.size()));
    }
    return describe(probability, names, top);
}

}  // namespace

std::vector<std::filesystem::path> find_images(const std::vector<std::filesystem::path>& roots) {
    std::vector<std::filesystem::path> files;
    for (const auto& root : roots) {
        std::error_code unreadable;
        if (!std::filesystem::is_directory(root, unreadable)) {
            files.push_back(root);
            continue;
        }
        const auto before = static_cast<std::ptrdiff_t>(files.size());
        search(root, files);
        std::sort(files.begin() + before, files.end());
    }
    return files;
}

ClassifyCounts classify(const ClassifyConfig& config, std::ostream& out) {
    const auto files = find_images(config.images);
    if (files.empty()) throw BadInput("expected JPEG or PNG files in the folders named, found none");
    Model model(config.model, config.runtime);
    check_input(model);
    model.choose_output(kExpectedOutput, "probabilities");
    const auto names = class_names_of(model);
    Progress progress(!config.quiet);
    ClassifyCounts counts;
    ImageSource source(files);
    Prefetcher<Item> items([&source](Item& item) { return source.next(item); }, kImagesAhead);
    while (const Item* item = items.next()) {
        Json line = {{"file", item->path.string()}};
        try {
            line.update(classify_one(model, *item, names, config.top));
            ++counts.classified;
        } catch (const BadInput& error) {
            line["error"] = error.what();
            ++counts.unreadable;
        }
        // A file's name may be any bytes; JSON is UTF-8.
        out << line.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
        progress.update("classify", counts.classified + counts.unreadable, files.size());
    }
    return counts;
}

}  // namespace harness
