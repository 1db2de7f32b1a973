"""Public names for editors and type checkers, by the module that defines them; `__init__.py` has the same."""

from mobileclip_deploy.benchmark.doctor import (
    Diagnosis as Diagnosis,
    doctor as doctor,
)
from mobileclip_deploy.benchmark.door import (
    BenchmarkOutcome as BenchmarkOutcome,
    BenchmarkResult as BenchmarkResult,
    DeviceListing as DeviceListing,
    benchmark as benchmark,
    devices as devices,
    write_job as write_job,
)
from mobileclip_deploy.benchmark.report import report as report
from mobileclip_deploy.artifacts.bundle import Bundle as Bundle
from mobileclip_deploy.network.checkpoints.convert import (
    Conversion as Conversion,
    convert as convert,
)
from mobileclip_deploy.network.checkpoints.cutting import Languages as Languages
from mobileclip_deploy.network.checkpoints.door import load_model as load_model
from mobileclip_deploy.search.index import Index as Index
from mobileclip_deploy.search.door import (
    BridgeResult as BridgeResult,
    EmbeddingFile as EmbeddingFile,
    IndexFile as IndexFile,
    SearchResult as SearchResult,
    bridge as bridge,
    embed as embed,
    export_index as export_index,
    search as search,
)
from mobileclip_deploy.errors import MobileClipDeployError as MobileClipDeployError
from mobileclip_deploy.evaluation.classification import (
    Classification as Classification,
    Classifications as Classifications,
    classify as classify,
)
from mobileclip_deploy.evaluation.door import (
    EvaluationResult as EvaluationResult,
    evaluate as evaluate,
    load_runner as load_runner,
)
from mobileclip_deploy.evaluation.opened import (
    OpenBundle as OpenBundle,
    TowerTest as TowerTest,
    open_bundle as open_bundle,
)
from mobileclip_deploy.pictures.inputs import (
    preprocess as preprocess,
    tokenize as tokenize,
)
from mobileclip_deploy.export.door import (
    export as export,
    export_all as export_all,
)
from mobileclip_deploy.network.folding import FoldReport as FoldReport
from mobileclip_deploy.verify.audit.door import (
    ForeignReport as ForeignReport,
    audit as audit,
    verify_file as verify_file,
)
from mobileclip_deploy.verify.inspect.door import (
    Inspection as Inspection,
    LintComparison as LintComparison,
    LintReport as LintReport,
    Variant as Variant,
    compare_lint as compare_lint,
    inspect as inspect,
    lint as lint,
    variants as variants,
)
from mobileclip_deploy.artifacts.layouts import (
    Layout as Layout,
    layouts as layouts,
    read_layout as read_layout,
)
from mobileclip_deploy.artifacts.heads.label_head import LabelHead as LabelHead
from mobileclip_deploy.spaces.tags.door import learn_labels as learn_labels
from mobileclip_deploy.training.door import (
    AugmentationPolicy as AugmentationPolicy,
    DistilledTower as DistilledTower,
    Reinforced as Reinforced,
    Trained as Trained,
    reinforce as reinforce,
    train as train,
    train_text_tower as train_text_tower,
)
from mobileclip_deploy.network.model.architecture import MobileCLIP as MobileCLIP
from mobileclip_deploy.parity import (
    Gates as Gates,
    ParityReport as ParityReport,
)
from mobileclip_deploy.benchmark.suite.door import (
    SuiteResult as SuiteResult,
    evaluate_suite as evaluate_suite,
)
from mobileclip_deploy.benchmark.sweep.door import (
    SweepResult as SweepResult,
    sweep as sweep,
)
from mobileclip_deploy.targets import Runner as Runner
from mobileclip_deploy.artifacts.towers.door import reparameterize as reparameterize
from mobileclip_deploy.verify.audit.embeddings import (
    EmbeddingsReport as EmbeddingsReport,
    verify_embeddings as verify_embeddings,
)
from mobileclip_deploy.verify.door import (
    Comparison as Comparison,
    Explanation as Explanation,
    compare as compare,
    explain as explain,
    verify as verify,
)
from mobileclip_deploy.web.demo import (
    demo as demo,
    write_demo as write_demo,
)
