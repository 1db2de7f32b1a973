"""HTML pages that need nothing beside them, from templates in a package."""

from __future__ import annotations

from importlib.resources import files

from mobileclip_deploy.base.escaping import writable


def filled_page(package: str, **values: object) -> str:
    """`page.html` of a package filled in; it may include other files of that package. Every value is escaped, and
    what UTF-8 cannot hold too.

    Args:
        package: its name, as `__package__` says it.
        values: what the template calls them; functions too.
    """
    import jinja2

    folder = files(package)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= values  # macros of included files see them too
    return writable(environment.get_template("page.html").render())
