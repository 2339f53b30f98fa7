# Prints every include that goes against the direction core <- autograd <- ops <- models <- train <- tools and fails then.
# cuda implements what core, ops and train declare, and nobody includes it.
folders="core autograd ops models train tools"
status=0
later=$folders
for folder in $folders; do
  later=${later#"$folder"}
  later=${later# }
  for forbidden in $later cuda tests bench; do
    if grep -rn --include='*.h' --include='*.cpp' "#include \"duet/$forbidden/" "$folder"; then status=1; fi
  done
done
for forbidden in models tools tests bench; do
  if grep -rn --include='*.h' --include='*.cuh' --include='*.cpp' --include='*.cu' "#include \"duet/$forbidden/" cuda; then status=1; fi
done
exit $status
