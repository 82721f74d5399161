"""Factories that no converter can take, for each of them. Imports no framework."""


def raises(width=1):
    message = f"no network of {width}\nand more lines of it"
    raise ValueError(message)


def nothing():
    return None


def loop():
    import a_module_that_nobody_has  # noqa: F401


not_callable = 3
