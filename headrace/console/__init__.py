"""`headrace console`: a web page that shows what is going on. It only reads: it joins no group and commits nothing."""
