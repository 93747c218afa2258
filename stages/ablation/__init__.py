"""ablate: the same student on other rows or by other settings, under one token budget: what did each choice bring?"""
