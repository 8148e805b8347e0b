"""What is accepted with reason, as (function, argument, fault)."""

ALLOWED = {
    ("field * x", "factor", "text"): "Python itself says that these do not multiply",
}
