"""Public sources of the rules. Statements of experimenters are cited as theirs."""

from mobileclip_deploy.targets.mil.lint.rule import RuleSource


def issue(repository: str, number: int, title: str) -> RuleSource:
    """Returns an issue in one of Apple's repositories."""
    return RuleSource(f"{repository} #{number}: {title}", f"https://github.com/apple/{repository}/issues/{number}")


# Apple's own words.
TRANSFORMERS = RuleSource(
    "Apple, Deploying Transformers on the Apple Neural Engine",
    "https://machinelearning.apple.com/research/neural-engine-transformers",
)
TYPED_EXECUTION = RuleSource(
    "Apple, coremltools guide: Typed Execution, workflow",
    "https://apple.github.io/coremltools/docs-guides/source/typed-execution-example.html",
)
FLEXIBLE_SHAPES = RuleSource(
    "Apple engineer: with a range only the default shape runs on the Neural Engine",
    "https://developer.apple.com/forums/thread/724930",
)
RANK = issue("coremltools", 1723, "no tensor of rank above five")
RECURRENT = issue("coremltools", 1780, "RNN and LSTM are not supported on the Neural Engine")
QUANTIZED_ACTIVATIONS = RuleSource(
    "Apple, coremltools guide: optimizations by system",
    "https://apple.github.io/coremltools/docs-guides/source/opt-whats-new.html",
)

# Reports in Apple's tracker.
FLEXIBLE_BATCH = issue("coremltools", 2022, "a CLIP text tower with a flexible batch went from 3 ms to 60 ms")
ENUMERATED = issue("coremltools", 1909, "layer_norm under enumerated shapes is not run on the Neural Engine")
GATHER = issue("coremltools", 1103, "gather runs on the CPU")

# Core ML's own compute plans, published.
COMPUTE_PLAN = RuleSource(
    "MLComputePlan of a WhisperKit text decoder: gather is supported on the CPU alone",
    "https://huggingface.co/SingularityUS/atc-whisperkit/blob/main/small/TextDecoder.mlcomputeplan.json",
)
DETECTOR_PLAN = RuleSource(
    "rf-detr #1495, MLComputePlan: topk and the ops on its integer indices leave",
    "https://github.com/roboflow/rf-detr/pull/1495",
)

# Experimenters.
CAPABILITIES = RuleSource("ANEForge, capabilities", "https://aneforge.readthedocs.io/en/latest/capabilities/")
CATALOG = RuleSource("ANEForge, catalog of MIL ops by chip", "https://aneforge.readthedocs.io/en/latest/op-catalog/")
DESIGN_RULES = RuleSource(
    "ANE guide, 17: model-design rules",
    "https://ane-guide.readthedocs.io/en/latest/part-5-practice/17-model-design-rules.html",
)
NUMERICS = RuleSource(
    "ANE guide, 3: numerics", "https://ane-guide.readthedocs.io/en/latest/part-1-machine/03-numerics.html"
)
SATURATION = RuleSource(
    "ANEForge #116: results of matmul above 32,752 become infinite",
    "https://github.com/sbryngelson/ANEForge/pull/116",
)
EXPERIMENTS = RuleSource(
    "M. Hollemans, The Neural Engine: unsupported layers",
    "https://github.com/hollance/neural-engine/blob/master/docs/unsupported-layers.md",
)
KERNEL_WARNING = RuleSource(
    "neural-engine #2: the compiler's warning, (dilated) kernel width above 13",
    "https://github.com/hollance/neural-engine/issues/2",
)
MODEL_SIZE = RuleSource(
    "eeANE 1.6.1: from macOS 27 a compiled model above 1 GiB runs on the CPU",
    "https://github.com/xhighhongo41/eeANE/releases",
)
CRASH = issue("coremltools", 2758, "667 MB in float16: ANECCompile fails, the first prediction kills the process")
