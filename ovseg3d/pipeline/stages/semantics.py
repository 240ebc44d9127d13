"""The stage `semantics`: semantics of the field's surface, and a preview of them."""

from ovseg3d.errors import ConfigError, EncoderError
from ovseg3d.export.overlays import save_semantics_preview
from ovseg3d.pipeline.context import Context, Stage
from ovseg3d.pipeline.semantics import learn_semantics
from ovseg3d.query.engine import QueryEngine
from ovseg3d.runs import fields
from ovseg3d.runs.phrases import without_doubles
from ovseg3d.runs.stages import SEMANTICS


class SemanticsStage(Stage):
    """Learns semantics. A resumed run learns them again only if its field, its features, its phrases or a setting has
    changed. An interrupted training continues from its checkpoint."""

    spec = SEMANTICS

    def prepare(self, context: Context) -> None:
        """Raises ConfigError: the method needs phrases, and there are none."""
        if context.config.semantics.method == "3d-ovs" and not without_doubles(context.scene.phrases):
            raise ConfigError(
                "3d-ovs learns from phrases, and this scene has no phrases",
                where=context.scene.path,
                fix='--phrases "chair;table", or --method default',
            )

    def may_skip(self, context: Context) -> bool:
        run, before = context.run, context.learned_with
        same = before is not None and before == run.encoded()
        return same and context.new_steps == 0 and SEMANTICS.is_in(run.folder)

    def run(self, context: Context) -> bool:
        run, train = context.run, context.config.train
        renderer = fields.restore(run, context.scene, train.device, train.backend)
        if learn_semantics(context, renderer) is None:
            return False
        try:
            engine = QueryEngine(run, context.scene, context.device, train.backend)
            save_semantics_preview(run.previews / "semantics.png", engine)
        except EncoderError as error:  # the features came from the cache, but the weights are missing
            context.log("semantics", f"No preview of labels: {error.what}")
        run.write_metrics({"peak_anonymous_bytes": context.memory.peak})
        return True
