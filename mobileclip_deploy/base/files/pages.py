"""Self-contained HTML pages, from templates in a package."""

from importlib.resources import files

from mobileclip_deploy.base.escaping import shown_in_text, writable


def filled_page(package: str, template: str = "page.html", /, **values: object) -> str:
    """Fills in a template of a package, which may include other files of that package.

    Every value is escaped: HTML's characters, those that are invisible or reverse the order of words, and those that
    UTF-8 cannot encode.

    Args:
        package: its name, as in `__package__`.
        values: variables of the template; functions too.
    """
    import jinja2

    folder = files(package)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        finalize=lambda value: (
            shown_in_text(value) if type(value) is str else value
        ),  # not Markup, which is a page's own
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals |= values  # macros of included files see them too
    return writable(environment.get_template(template).render())
