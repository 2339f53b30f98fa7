# Prints every include that goes against the direction core <- autograd <- ops <- models <- train <- tools and fails then.
folders="core autograd ops models train tools"
status=0
later=$folders
for folder in $folders; do
  later=${later#"$folder"}
  later=${later# }
  for forbidden in $later tests bench; do
    if grep -rn --include='*.h' --include='*.cpp' "#include \"duet/$forbidden/" "$folder"; then status=1; fi
  done
done
exit $status
