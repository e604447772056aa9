"""ConceptMix: scenes of many concepts, their pictures, and who grades them."""
