"""`parfocal bench`: what a look costs on this machine, and strategies of focusing side by side."""
