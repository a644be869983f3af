"""Every study behind the notebooks; each writes one report and draws nothing."""
