"""What is made of an answer: DICOM objects, an HL7 message, a FHIR bundle."""
