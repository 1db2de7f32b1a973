"""Self-contained HTML pages, from templates in a package."""

from __future__ import annotations

from importlib.resources import files

from mobileclip_deploy.base.escaping import writable


def filled_page(package: str, template: str = "page.html", /, **values: object) -> str:
    """Fills in a template of a package, which may include other files of that package.

    Every value is escaped, and so are characters that UTF-8 cannot encode.

    Args:
        package: its name, as in `__package__`.
        values: variables of the template; functions too.
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
    return writable(environment.get_template(template).render())
