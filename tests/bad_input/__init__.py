"""Bad input for everything public: signatures times kinds of wrong values, and what the library says to each."""
