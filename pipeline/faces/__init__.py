"""What becomes of a face that was found: how a restored one is laid into the photograph, and whether it is still the same
person. The networks are in `pipeline.models`; the stages `faces` and `compose` say when what of this is done."""
